module crossfade

go 1.21
