"""Reads capture metadata: time, camera, place, caption and the like.

Pillow reads EXIF, IPTC and XMP. Nothing here rejects a picture: a field that is broken is left out.
"""
