-- Give back what is booked on an owner beyond what it holds; but nothing later than the last receipt at the time of the
-- look, because this may arrive long after it: the network goes on to deliver what the owner has given up.
-- KEYS: holders of the node
-- ARGV: prefix, node, owner ("<slot>:<incarnation>:"), last receipt, receipt…
-- Returns: how many

local last = tonumber(ARGV[4])
local kept = {}
for i = 5, #ARGV do
  kept[ARGV[i]] = true
end
local count, flights, queues = 0, {}, {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(holder, 1, #ARGV[3]) == ARGV[3] then
    count = count + collect(ARGV[1], ARGV[2], holder, kept, last, flights, queues)
  end
end
give_back_all(ARGV[1], flights, queues)
return count
