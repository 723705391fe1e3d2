-- KEYS[1]: what all keys begin with
-- ARGV: ids
-- returns for each: record, first and last number of its events (0: none), how many events and steps,
--                   whether it has an outcome and a payload, when it is due, when it ended, whether it is listed
local base, out = KEYS[1], {}
local function number(list, index)
  local event = redis.call('LINDEX', list, index)
  return event and tonumber(string.match(event, '^%d+')) or 0
end
for _, id in ipairs(ARGV) do
  local record = redis.call('GET', base .. 'run:' .. id)
  local list = base .. 'ev:' .. id
  local ready = false
  if record then
    local agent = string.sub(record, 20, 19 + string.byte(record, 19))
    ready = redis.call('ZSCORE', base .. 'ready:' .. agent, id)
  end
  out[#out + 1] = {
    record, number(list, 0), number(list, -1), redis.call('LLEN', list), redis.call('HLEN', base .. 'st:' .. id),
    redis.call('EXISTS', base .. 'out:' .. id), redis.call('EXISTS', base .. 'in:' .. id), ready,
    redis.call('ZSCORE', base .. 'due', id), redis.call('ZSCORE', base .. 'ended', id),
  }
end
return out
