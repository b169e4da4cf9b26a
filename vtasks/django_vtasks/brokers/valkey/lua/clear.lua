-- Delete some tasks of a queue that do not run, with their locks.
-- KEYS: waiting, delayed, suspects
-- ARGV: prefix, how many at most
-- Returns: how many

local left = tonumber(ARGV[2])
local cleared = {}
for _, key in ipairs({KEYS[1], KEYS[3]}) do
  local entries = left > 0 and redis.call('RPOP', key, left) or {}
  for _, entry in ipairs(entries) do
    table.insert(cleared, entry)
  end
  left = left - #entries
end
if left > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[2], left)
  for i = 1, #popped, 2 do
    table.insert(cleared, popped[i])
  end
end
for _, entry in ipairs(cleared) do
  local id, _, _, _, lock = string.match(entry, ENTRY)
  if lock and lock ~= '-' then
    free_lock(ARGV[1] .. ':lock:' .. string.sub(lock, 3), id)
  end
end
return #cleared
