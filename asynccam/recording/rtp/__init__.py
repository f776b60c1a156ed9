"""RTP and RTCP: ports, packet filter, sender reports and frame times."""
