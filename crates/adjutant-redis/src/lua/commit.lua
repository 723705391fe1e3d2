-- KEYS[1]: what all keys begin with
-- ARGV: token, news, who writes, what `seq` must be (nothing: anything),
--       number of checks, their keys, what these must begin with (nothing: must not be there),
--       number of concurrency keys, each with by how many its running runs change,
--       then commands, each with the number of its words in front
-- returns: seconds, microseconds, `seq` as it was found, status, `seq` as it is left, when something is due next
-- status: 1 written, 0 something is not as it was read, 2 written before under this token
local base, token, checks, words = KEYS[1], ARGV[1], tonumber(ARGV[5]), #ARGV
local time, seq = redis.call('TIME'), redis.call('GET', base .. 'seq') or ''
local function answer(status, left)
  local due = redis.call('ZRANGE', base .. 'due', 0, 0, 'WITHSCORES')
  return {time[1], time[2], seq, status, left, due[2] or ''}
end
local mine = base .. 'tx:' .. ARGV[3]
local before = redis.call('GET', mine)
if before and string.sub(before, -16) == token then return answer(2, before) end
if ARGV[4] ~= '' and ARGV[4] ~= seq then return answer(0, seq) end
for first = 1, checks, 4000 do
  local last = math.min(first + 3999, checks)
  local found = redis.call('MGET', unpack(ARGV, 5 + first, 5 + last))
  for i = first, last do
    local is, want = found[i - first + 1], ARGV[5 + checks + i]
    if (want == '') == (is and true or false) or is and string.sub(is, 1, #want) ~= want then
      return answer(0, seq)
    end
  end
end
local at = 6 + 2 * checks
local slots = tonumber(ARGV[at])
at = at + 1
if at > words then return answer(1, seq) end
-- First of all a command that a server without memory or disk refuses: then nothing is written.
local number = tonumber(string.match(seq, '^%d+') or '0') + 1
local left = string.format('%.0f', number) .. ' ' .. token
redis.call('SET', base .. 'seq', left)
redis.call('SET', mine, left, 'EX', 86400)
local first_slot = at
at = at + 2 * slots
while at <= words do
  local n = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
for i = 0, slots - 1 do
  local name, by = ARGV[first_slot + 2 * i], tonumber(ARGV[first_slot + 2 * i + 1])
  local key = base .. 'slot:' .. name
  local is = redis.call('GET', key)
  local running = (is and tonumber(string.sub(is, 18)) or 0) + by
  if running == 0 and redis.call('EXISTS', base .. 'held:' .. name) == 0 then
    redis.call('DEL', key)
  else
    redis.call('SET', key, token .. ' ' .. string.format('%.0f', running))
  end
end
redis.call('PUBLISH', base .. 'news', string.format('%.0f', number) .. ' ' .. ARGV[2])
return answer(1, left)
