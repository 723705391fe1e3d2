-- KEYS[1]: what all keys begin with
-- ARGV: ids and keys of steps, in turns
-- returns: seconds, microseconds, `seq`, then the head of each step that is there, else nothing
local time = redis.call('TIME')
local out = {time[1], time[2], redis.call('GET', KEYS[1] .. 'seq') or ''}
for i = 1, #ARGV, 2 do
  local step = redis.call('HGET', KEYS[1] .. 'st:' .. ARGV[i], ARGV[i + 1])
  out[#out + 1] = step and string.match(step, '^%d+ %d ') or false
end
return out
