package devstacktest

import "context"

func startTemporal(context.Context) error { return nil }
