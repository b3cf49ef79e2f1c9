package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"
)

// SearchAttributes are the keyword fields by which workflows can be listed.
var SearchAttributes = []string{"RunID", "RunStatus", "Stage"}

const retention = 30 * 24 * time.Hour // of a closed workflow's history; the facts are in Postgres

// RegisterNamespace waits until a Temporal server answers, registers the
// namespace and its SearchAttributes where they are absent, and waits until
// they can be used. It does the same for the embedded server and for any other.
func RegisterNamespace(ctx context.Context, address, namespace string) error {
	var c client.Client
	err := insist(ctx, 20*time.Millisecond, func() (err error) {
		c, err = client.DialContext(ctx, client.Options{HostPort: address, Namespace: namespace, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to Temporal at %s: %w", address, err)
	}
	defer c.Close()
	if err := insist(ctx, 50*time.Millisecond, func() error { return register(ctx, c, namespace) }); err != nil {
		return fmt.Errorf("register namespace %s: %w", namespace, err)
	}
	if err := insist(ctx, 50*time.Millisecond, func() error { return addAttributes(ctx, c, namespace) }); err != nil {
		return fmt.Errorf("add search attributes to namespace %s: %w", namespace, err)
	}
	return nil
}

// insist tries until it succeeds or ctx ends, whose cause it then gives with the last error.
func insist(ctx context.Context, every time.Duration, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%v)", context.Cause(ctx), err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

func register(ctx context.Context, c client.Client, namespace string) error {
	_, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if _, absent := errors.AsType[*serviceerror.NamespaceNotFound](err); !absent {
		return err
	}
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention)})
	if _, exists := errors.AsType[*serviceerror.NamespaceAlreadyExists](err); exists {
		return nil
	}
	return err
}

// addAttributes adds what is absent and fails until a query may name every attribute.
func addAttributes(ctx context.Context, c client.Client, namespace string) error {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	absent := slices.DeleteFunc(slices.Clone(SearchAttributes), func(name string) bool {
		_, ok := have.CustomAttributes[name]
		return ok
	})
	if len(absent) > 0 {
		add := &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: map[string]enums.IndexedValueType{}}
		for _, name := range absent {
			add.SearchAttributes[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
		}
		if _, err := c.OperatorService().AddSearchAttributes(ctx, add); err != nil {
			return err
		}
	}
	for _, name := range SearchAttributes {
		count := &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: name + " IS NOT NULL"}
		if _, err := c.CountWorkflow(ctx, count); err != nil {
			return err
		}
	}
	return nil
}
