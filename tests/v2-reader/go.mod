module v2reader

go 1.26
