module regent.dev/hack/regex-vectors

go 1.25
