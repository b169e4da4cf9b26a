-- Give back what is booked on an owner beyond what it holds.
-- KEYS: holders of the node
-- ARGV: prefix, node, owner ("<slot>:<incarnation>:"), receipt…
-- Returns: how many

local kept = {}
for i = 4, #ARGV do
  kept[ARGV[i]] = true
end
local count, flights, queues = 0, {}, {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(holder, 1, #ARGV[3]) == ARGV[3] then
    count = count + collect(ARGV[1], ARGV[2], holder, kept, flights, queues)
  end
end
give_back_all(ARGV[1], flights, queues)
return count
