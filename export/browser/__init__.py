"""Write a static web page that runs a model in the browser."""
