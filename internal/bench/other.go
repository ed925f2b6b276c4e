//go:build !linux

package bench

import (
	"context"
	"io"
)

func runConnect(context.Context, ConnectConfig, io.Writer) error   { return ErrUnsupported }
func runFanout(context.Context, FanoutConfig, io.Writer) error     { return ErrUnsupported }
func runChannels(context.Context, ChannelsConfig, io.Writer) error { return ErrUnsupported }
func runMemory(context.Context, MemoryConfig, io.Writer) error     { return ErrUnsupported }
func runFloor(context.Context, FloorConfig, io.Writer) error       { return ErrUnsupported }
