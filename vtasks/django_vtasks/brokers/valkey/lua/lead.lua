-- Take or keep the leadership of a role.
-- KEYS: leader
-- ARGV: node, µs
-- Returns: a number that grows with each change, or nothing while another node leads

local held = redis.call('HMGET', KEYS[1], 'node', 'number', 'expires')
local number = tonumber(held[2] or 0)
local time = now()
if held[1] ~= ARGV[1] then
  if held[3] and tonumber(held[3]) > time then
    return false
  end
  number = number + 1
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'number', number, 'expires', time + tonumber(ARGV[2]))
return number
