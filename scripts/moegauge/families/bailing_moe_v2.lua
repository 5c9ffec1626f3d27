--- Ling 2.0 (Ling Team 2025, arXiv 2510.22115): see bailing_moe.

return require("moegauge.families.bailing_moe").sibling()
