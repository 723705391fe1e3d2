-- KEYS[1]: what all keys begin with
-- Tries every command that the other scripts need, on a key of its own: a script that is not allowed one of them
-- would stop halfway.
local base = KEYS[1]
local key = base .. 'probe'
for _, command in ipairs({
  {'TIME'}, {'DEL', key}, {'SET', key, '0', 'EX', '60'}, {'GET', key}, {'MGET', key}, {'MSET', key, '0'}, {'EXISTS', key},
  {'SETRANGE', key, '0', 'a'}, {'GETRANGE', key, '0', '0'}, {'DEL', key},
  {'RPUSH', key, 'a'}, {'LLEN', key}, {'LINDEX', key, '0'}, {'LRANGE', key, '0', '-1'}, {'LTRIM', key, '1', '0'}, {'DEL', key},
  {'HSET', key, 'a', '1'}, {'HGET', key, 'a'}, {'HGETALL', key}, {'HLEN', key}, {'HINCRBY', key, 'a', '1'}, {'HDEL', key, 'a'},
  {'SADD', key, 'a'}, {'SMEMBERS', key}, {'SREM', key, 'a'},
  {'ZADD', key, '0', 'a'}, {'ZCARD', key}, {'ZSCORE', key, 'a'}, {'ZMSCORE', key, 'a'}, {'ZRANGE', key, '0', '0'},
  {'ZRANGEBYSCORE', key, '0', '0'}, {'ZREVRANGEBYLEX', key, '+', '-'}, {'ZREMRANGEBYSCORE', key, '1', '1'}, {'ZREM', key, 'a'},
  {'PUBLISH', base .. 'probe', ''},
}) do
  redis.call(unpack(command))
end
return 1
