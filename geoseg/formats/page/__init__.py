"""Page: what a result shows people in a browser, as one HTML file that needs no other; see ``rendering``."""
