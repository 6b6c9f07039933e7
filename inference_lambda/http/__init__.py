"""The HTTP API: routes, request bodies, problem responses, OpenAPI document and web page."""
