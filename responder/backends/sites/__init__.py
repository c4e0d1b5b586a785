"""Web front ends: releases in S3, pointers, and the CDNs in front of them."""
