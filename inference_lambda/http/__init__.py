"""HTTP API: routes, query and request body, problem responses, OpenAPI document and web page."""
