"""Masks that users bring: pictures, arrays, COCO and labelme files -> one mask per object, and what was assumed."""
