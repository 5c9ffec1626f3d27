--- A module that is read when it is first used: for one that few experiments need, and for two that need each other.
---
---     local swap = lazy "moegauge.swap"
---     swap.apply(model, t)

--- @param name string
--- @return table  stands in for the module: its fields can be read, and it can be called if the module can
return function(name)
  return setmetatable({}, {
    __index = function(_, key) return require(name)[key] end,
    __call = function(_, ...) return require(name)(...) end,
  })
end
