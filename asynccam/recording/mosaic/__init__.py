"""Contact sheets and mosaics of aligned videos, and the time code of test pictures."""
