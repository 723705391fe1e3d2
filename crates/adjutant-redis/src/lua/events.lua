-- KEYS[1]: what all keys begin with
-- ARGV: id, the number after which to begin, limit
-- returns: the run's record or nothing, the number of the first event that is there or nothing, events
local base, id, after, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local record = redis.call('GET', base .. 'run:' .. id)
local list = base .. 'ev:' .. id
local first = redis.call('LINDEX', list, 0)
if not record or not first then return {record, false, {}} end
first = tonumber(string.match(first, '^%d+'))
local from = math.max(after + 1 - first, 0)
return {record, first, redis.call('LRANGE', list, from, from + limit - 1)}
