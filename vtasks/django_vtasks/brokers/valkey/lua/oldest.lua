-- Tell what may be the oldest tasks of queues: of the lists the next few and the last one, and the first that is due.
-- KEYS: queues
-- ARGV: prefix, entries of a list, bytes of all but the first of them, queue…
-- Returns: µs since the epoch; for each queue: µs at which the first of the delayed tasks was due or -1, entry…

local time = now()
local answer = {time}
local function look(key, found)
  local room = tonumber(ARGV[3])
  for i = 1, tonumber(ARGV[2]) + 1 do
    local entry = redis.pcall('LINDEX', key, i > tonumber(ARGV[2]) and 0 or -i)
    if type(entry) ~= 'string' then -- there are no more, or something else has taken the place of the queue
      return
    end
    room = room - (i > 1 and #entry or 0)
    if room < 0 then
      return
    end
    found[#found + 1] = entry
  end
end
for i = 4, #ARGV do
  local first = redis.pcall('ZRANGE', ARGV[1] .. ':delayed:' .. ARGV[i], 0, 0, 'WITHSCORES')[2]
  local found = {first and tonumber(first) <= time and tonumber(first) or -1}
  look(ARGV[1] .. ':waiting:' .. ARGV[i], found)
  look(ARGV[1] .. ':suspects:' .. ARGV[i], found)
  answer[#answer + 1] = found
end
return answer
