"""Linux servers: releases in directories, restart commands, proxies and log files."""
