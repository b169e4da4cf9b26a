-- Delete some tasks of a queue that do not run, with their locks.
-- KEYS: waiting, delayed, suspects
-- ARGV: prefix, how many at most
-- Returns: how many

local left = tonumber(ARGV[2])
local cleared, counts = {}, {}
for place, key in ipairs({KEYS[1], KEYS[3], KEYS[2]}) do
  counts[place] = 0
  if left > 0 then
    local entries = key == KEYS[2] and redis.call('ZRANGE', key, 0, left - 1) or redis.call('LRANGE', key, -left, -1)
    for _, entry in ipairs(entries) do
      cleared[#cleared + 1] = entry
    end
    counts[place] = #entries
    left = left - #entries
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
  redis.call('RPOP', KEYS[1], counts[1])
end
if counts[2] > 0 then
  redis.call('RPOP', KEYS[3], counts[2])
end
if counts[3] > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, counts[3] - 1)
end
return #cleared
