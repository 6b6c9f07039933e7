"""Write a static web page that runs the model in a browser."""
