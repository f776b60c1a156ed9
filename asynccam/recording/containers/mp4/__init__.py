"""Reader of MP4 and QuickTime files (ISO/IEC 14496-12)."""
