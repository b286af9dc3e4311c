"""The web page of the camera: it observes and never makes the loop wait. Needs the extra `web`, once it is asked for."""
