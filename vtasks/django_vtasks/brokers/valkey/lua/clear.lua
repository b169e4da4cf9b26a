-- Delete some tasks of a queue that do not run, with their locks.
-- KEYS: waiting, delayed, suspects
-- ARGV: prefix, how many at most, bytes after which no more are read
-- Returns: how many

local left, room = tonumber(ARGV[2]), tonumber(ARGV[3])
local cleared, counts = {}, {}
for place, key in ipairs({KEYS[1], KEYS[3], KEYS[2]}) do
  counts[place] = 0
  -- A few first, and ever more while they turn out to be small.
  local at_once, is_over = 1, false
  while left > 0 and room > 0 and not is_over do
    local had, wanted = counts[place], math.min(at_once, left)
    local entries = key == KEYS[2] and redis.call('ZRANGE', key, had, had + wanted - 1)
      or redis.call('LRANGE', key, -had - wanted, -had - 1)
    for _, entry in ipairs(entries) do
      cleared[#cleared + 1] = entry
      room = room - #entry
    end
    counts[place] = had + #entries
    left = left - #entries
    is_over = #entries < wanted
    at_once = 4 * at_once
  end
end
local locks = {}
for _, entry in ipairs(cleared) do
  local id, _, _, _, lock = string.match(entry, ENTRY)
  if lock and lock ~= '-' then
    locks[#locks + 1] = {ARGV[1] .. ':lock:' .. string.sub(lock, 3), id}
    redis.call('EXISTS', locks[#locks][1])
  end
end
for _, lock in ipairs(locks) do
  free_lock(lock[1], lock[2])
end
if counts[1] > 0 then
  redis.call('LTRIM', KEYS[1], 0, -counts[1] - 1)
end
if counts[2] > 0 then
  redis.call('LTRIM', KEYS[3], 0, -counts[2] - 1)
end
if counts[3] > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, counts[3] - 1)
end
return #cleared
