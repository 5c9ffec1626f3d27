--- What experiments that swap routers ask of a released mixture (`model:mixture()`) and of its results.

local core = require "moegauge.core"

local routings = {}

--- Whether the weights that a router gives a token sum to 1.
function routings.sums_to_one(router) return router.order == "after" or router.renormalise == true end

--- Half of the experts that a token chooses. The case is skipped where that leaves a single weight that is divided by itself:
--- it would always be 1, which routers refuse.
function routings.half(router)
  if router.k // 2 < 2 and routings.sums_to_one(router) then
    core.fail("nothing", "half of the experts is one, whose weight would always be 1")
  end
  return math.max(1, router.k // 2)
end

--- The branching of the tree of two levels that looks at the fewest gates: g groups, and the experts of the k best of them.
function routings.two_levels(mixture)
  local best, least
  for groups = 2, mixture.experts // 2 do
    local cost = groups + math.min(mixture.router.k, groups) * (mixture.experts // groups)
    if mixture.experts % groups == 0 and (not least or cost < least) then best, least = groups, cost end
  end
  return { best, mixture.experts // best }
end

--- A warning where the released model predicts no better than chance, so that nothing said of its accuracy means anything;
--- else nil. `loss_of` gives a case's loss as released, or nil where it has none.
function routings.chance_note(r, loss_of)
  local sum, count, chance = 0, 0, nil
  for _, case in ipairs(r.cases) do
    local loss = loss_of(case)
    if loss then sum, count, chance = sum + loss, count + 1, math.log(case.result.tables.model.vocabulary) end
  end
  if count == 0 or sum / count < 0.95 * chance then return nil end
  return ("The checkpoint predicts no better than chance: %.2f nats as released, against ln of its vocabulary = %.2f. Its loss and accuracy, and differences between them, mean nothing; costs, balance, memory and speed do."):format(sum / count, chance)
end

return routings
