#!/bin/sh
# Level 0: counts the characters of its input.
count=$(wc -c)
printf '{"characters": %d}\n' "$count"
