"""A PCM chip on a drone's companion computer: detections and drift out as MAVLink, recalibration when it is safe."""
