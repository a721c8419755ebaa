module regent.dev/peers/bare-transit

go 1.26.0
