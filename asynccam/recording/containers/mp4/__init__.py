"""Reader of MP4 and QuickTime files, fragmented ones too (ISO/IEC 14496-12, QuickTime File Format)."""
