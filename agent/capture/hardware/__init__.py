"""Hardware decoding of RTSP streams: FFmpeg receives, a GStreamer process decodes. May import the rest of capture."""
