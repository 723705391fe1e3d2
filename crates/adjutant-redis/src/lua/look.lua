-- KEYS[1]: what all keys begin with
-- ARGV: commands, each with the number of its words in front
-- returns: seconds, microseconds, `seq`, then the answers
local time = redis.call('TIME')
local out, at, words = {time[1], time[2], redis.call('GET', KEYS[1] .. 'seq') or ''}, 1, #ARGV
while at <= words do
  local n = tonumber(ARGV[at])
  out[#out + 1] = redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
return out
