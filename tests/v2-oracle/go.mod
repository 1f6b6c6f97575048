module v2-oracle

go 1.26
