-- KEYS[1]: what all keys begin with
-- returns: counts, number of runs, of ready runs, of ready runs by time, of ended runs, the oldest ready run's time
local base, ready = KEYS[1], 0
for _, agent in ipairs(redis.call('SMEMBERS', base .. 'agents')) do
  ready = ready + redis.call('ZCARD', base .. 'ready:' .. agent)
end
local oldest = redis.call('ZRANGE', base .. 'since', 0, 0, 'WITHSCORES')
return {
  redis.call('HGETALL', base .. 'counts'), redis.call('ZCARD', base .. 'all'), ready,
  redis.call('ZCARD', base .. 'since'), redis.call('ZCARD', base .. 'ended'), oldest[2] or '',
}
