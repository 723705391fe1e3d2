-- KEYS[1]: what all keys begin with
-- ARGV: the id before which to begin (nothing: the newest), limit, how many to look at,
--       codes of states (nothing: all), agent (nothing: all), parent (nothing: all)
-- returns: the id to go on from (nothing: that was all), then id and record of each run
local base, before, limit, look = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local states, agent, parent = ARGV[4], ARGV[5], ARGV[6]
local line = parent == '' and base .. 'all' or base .. 'ki:' .. parent
local out = {''}
while true do
  local max = before == '' and '+' or '(' .. before
  local page = redis.call('ZREVRANGEBYLEX', line, max, '-', 'LIMIT', 0, 200)
  if #page == 0 then break end
  local names = {}
  for i, member in ipairs(page) do names[i] = base .. 'run:' .. string.sub(member, 1, 32) end
  local records = redis.call('MGET', unpack(names))
  for i, member in ipairs(page) do
    local record = records[i]
    before = string.sub(member, 1, 32)
    look = look - 1
    if record
      and (states == '' or string.find(states, string.sub(record, 17, 17), 1, true))
      and (agent == '' or string.sub(record, 20, 19 + string.byte(record, 19)) == agent)
    then
      out[#out + 1] = before
      out[#out + 1] = record
      limit = limit - 1
    end
    if limit <= 0 or look <= 0 then
      out[1] = before
      return out
    end
  end
end
return out
