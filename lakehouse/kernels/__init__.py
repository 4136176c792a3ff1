"""Arrow and numpy in, Arrow and numpy out: parsing, row rules, counting, mining, clustering, digests."""
