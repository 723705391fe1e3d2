#!/bin/sh
# The agent wire by hand: as much of level 1 as plain sh can do. Real agents use a library.
# Each message is taken apart with patterns, so it must come as compact JSON with its id before its parameters.

say() { printf '%s\n' "$1"; }
ok() { say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$1}"; }
refuse() { say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":$1,\"message\":\"$2\",\"data\":{\"code\":\"$3\",\"retryable\":false}}}"; }
# The value of a field: a number, or a text without quotes in it.
field() { printf '%s' "$line" | sed -n "s/.*\"$1\":\\([0-9][0-9]*\\|\"[^\"]*\"\\).*/\\1/p" | head -n 1; }

trap 'exit 0' TERM
# Bytes, whatever they are.
LC_ALL=C
export LC_ALL
while IFS= read -r line; do
  case $line in
    '{"jsonrpc":"2.0",'*) ;;
    *) printf 'not a message: %.80s\n' "$line" >&2; continue ;;
  esac
  head=${line%%\"params\"*}
  case $head in
    *'"id":'*) id=$(printf '%s' "$head" | sed 's/.*"id":\("[^"]*"\|-*[0-9][0-9]*\).*/\1/') ;;
    *) id= ;;
  esac
  method=$(printf '%s' "$head" | sed -n 's/.*"method":"\([^"]*\)".*/\1/p')
  case $method in
    initialize)
      if [ "$(field protocolVersion)" = 0 ]; then refuse -32602 'no version 0' invalid_params
      else ok '{"protocolVersion":1,"info":{"name":"shell"},"agents":[{"name":"shell"}]}'; fi ;;
    run/start)
      run=$(field runId)
      if [ -z "$run" ]; then refuse -32602 'no runId' invalid_params
      else
        scope="\"runId\":$run,\"attempt\":$(field attempt),\"epoch\":$(field epoch)"
        say "{\"jsonrpc\":\"2.0\",\"method\":\"run/event\",\"params\":{$scope,\"seq\":1,\"type\":\"shell.greeting\",\"data\":{}}}"
        ok '{"stopReason":"end_turn","output":{"text":"hello from sh"}}'
      fi ;;
    health/check) ok '{"status":"ok"}' ;;
    shutdown) ok '{}'; exit 0 ;;
    '') case $head in *'"result":'*|*'"error":'*) continue ;; esac  # An answer, and nothing was asked.
      id=${id:-null}; refuse -32600 'no message' invalid_request ;;
    *) [ -z "$id" ] || refuse -32601 'no such method' method_not_found ;;
  esac
done
exit 0
