--- GLM-5 (Z.ai 2026): DeepSeek-V3.2's shape; the checkpoint's modules hold no copies of embedding and head.

return require("moegauge.families.deepseek_v32").sibling("glm_moe_dsa", false)
