-- Note a schedule: one that is new, or has another timetable, is due from now on; what is not named is forgotten.
-- KEYS: schedule, slots
-- ARGV: for each entry its name and what tells its timetable from another
-- Returns: for each entry its name, the µs from when on it is due, and its last slot in µs or ""

local function hash(key)
  local fields, table_ = redis.call('HGETALL', key), {}
  for i = 1, #fields, 2 do
    table_[fields[i]] = fields[i + 1]
  end
  return table_
end

local time = now()
local known, slots, named, answer = hash(KEYS[1]), hash(KEYS[2]), {}, {}
for i = 1, #ARGV, 2 do
  local entry, timetable = ARGV[i], ARGV[i + 1]
  local since, before = string.match(known[entry] or '', '^(%d+) (.*)$')
  if before ~= timetable then
    since = string.format('%.0f', time)
    redis.call('HSET', KEYS[1], entry, since .. ' ' .. timetable)
  end
  named[entry] = true
  table.insert(answer, entry)
  table.insert(answer, since)
  table.insert(answer, slots[entry] or '')
end
for entry in pairs(known) do
  if not named[entry] then
    redis.call('HDEL', KEYS[1], entry)
  end
end
for entry, slot in pairs(slots) do
  -- One that is ahead of the clock has been, should its entry come back.
  if not named[entry] and tonumber(slot) <= time then
    redis.call('HDEL', KEYS[2], entry)
  end
end
return answer
