-- KEYS[1]: what all keys begin with
-- ARGV: limit, milliseconds to keep others from the same runs, bytes of payloads to send along,
--       number of ids to leave out, number of ids taken here before, what `seq` must be (nothing: anything),
--       those ids, then names of agents (none: all)
-- returns: seconds, microseconds, `seq`, when runs that others have taken come free (milliseconds, or nothing),
--          then for each run: id, rank, record, payload
local base, limit, patience, room = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local out, own = {}, {}
local at = 7
for i = 1, tonumber(ARGV[4]) do out[ARGV[at]] = true; at = at + 1 end
for i = 1, tonumber(ARGV[5]) do own[ARGV[at]] = true; at = at + 1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local seq = redis.call('GET', base .. 'seq') or ''
if ARGV[6] ~= '' and ARGV[6] ~= seq then return {time[1], time[2], seq, ''} end
local taken = base .. 'taken'
local any_taken = redis.call('ZCARD', taken) > 0
if any_taken then redis.call('ZREMRANGEBYSCORE', taken, '-inf', now) end

local all = #ARGV < at
local agents = {}
if all then
  agents = redis.call('SMEMBERS', base .. 'agents')
else
  for i = at, #ARGV do agents[#agents + 1] = ARGV[i] end
end

local found, free = {}, nil
for _, agent in ipairs(agents) do
  local line, first, here = base .. 'ready:' .. agent, 0, 0
  local page = math.min(math.max(limit, 16), 1000)
  while here < limit do
    local runs = redis.call('ZRANGE', line, first, first + page - 1, 'WITHSCORES')
    local ids = {}
    for i = 1, #runs, 2 do ids[#ids + 1] = runs[i] end
    if #ids == 0 then
      if first == 0 and all then redis.call('SREM', base .. 'agents', agent) end
      break
    end
    local until_when = any_taken and redis.call('ZMSCORE', taken, unpack(ids)) or {}
    for i, id in ipairs(ids) do
      local busy = until_when[i] and not own[id]
      if busy then
        local when = tonumber(until_when[i])
        if not free or when < free then free = when end
      elseif not out[id] and here < limit then
        found[#found + 1] = {tonumber(runs[2 * i]), id, runs[2 * i]}
        here = here + 1
      end
    end
    if #ids < page then break end
    first = first + page
  end
end
if #agents > 1 then
  table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
end

local answer = {time[1], time[2], seq, free and string.format('%.0f', free) or ''}
local count = math.min(#found, limit)
for first = 1, count, 500 do
  local last = math.min(first + 499, count)
  local records, take = {}, {}
  for i = first, last do
    records[#records + 1] = base .. 'run:' .. found[i][2]
    take[#take + 1] = now + patience
    take[#take + 1] = found[i][2]
  end
  records = redis.call('MGET', unpack(records))
  redis.call('ZADD', taken, unpack(take))
  for i = first, last do
    local payload = room > 0 and redis.call('GET', base .. 'in:' .. found[i][2])
    room = room - (payload and #payload or 0)
    answer[#answer + 1] = found[i][2]
    answer[#answer + 1] = found[i][3]
    answer[#answer + 1] = records[i - first + 1]
    answer[#answer + 1] = payload
  end
end
return answer
