package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// SearchAttributes are the keyword fields by which workflows can be listed.
var SearchAttributes = []string{"RunID", "RunStatus", "Stage"}

// historyRetention is how long Temporal keeps the history of a closed workflow.
// The facts of a run are in Postgres.
const historyRetention = 30 * 24 * time.Hour

// RegisterNamespace waits until the Temporal server of o answers, registers the
// namespace and SearchAttributes where they are absent, and waits until they can
// be used. It works for the embedded server and for any other. It returns at once
// if the server refuses this client, and otherwise retries until ctx ends.
func RegisterNamespace(ctx context.Context, o client.Options) error {
	// The SDK logs each failed attempt, and failed attempts are what waiting consists of.
	o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	var c client.Client
	err := retryUntil(ctx, 20*time.Millisecond, func() (err error) {
		c, err = client.DialContext(ctx, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to Temporal at %s: %w", o.HostPort, err)
	}
	defer c.Close()
	if err := retryUntil(ctx, 50*time.Millisecond,
		func() error { return ensureNamespace(ctx, c, o.Namespace) }); err != nil {
		return fmt.Errorf("register namespace %s: %w", o.Namespace, err)
	}
	if err := retryUntil(ctx, 50*time.Millisecond,
		func() error { return ensureSearchAttributes(ctx, c, o.Namespace) }); err != nil {
		names := strings.Join(SearchAttributes, ", ")
		return fmt.Errorf("add the keyword search attributes %s to namespace %s: %w", names, o.Namespace, err)
	}
	return nil
}

// retryUntil calls try until it succeeds or is refused, or ctx ends; the error
// then holds both the cause of ctx and the last error of try.
func retryUntil(ctx context.Context, every time.Duration, try func() error) error {
	for {
		err := try()
		if err == nil || isRefusal(err) {
			return err
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

// isRefusal reports whether the server will never accept this client: its
// certificate or API key is wrong, or it lacks the permission.
func isRefusal(err error) bool {
	switch serviceerror.ToStatus(err).Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	// No error type of gRPC or crypto/tls for a failed handshake survives to here, so the text decides. A connection
	// that breaks during the handshake is no refusal: a server that is starting or stopping does that.
	text := err.Error()
	for _, ended := range []string{"connection reset by peer", "broken pipe", "EOF"} {
		if strings.HasSuffix(strings.TrimRight(text, `"`), ended) {
			return false
		}
	}
	return strings.Contains(text, "authentication handshake failed") || strings.Contains(text, "remote error: tls")
}

// ensureNamespace registers the namespace if it does not exist.
func ensureNamespace(ctx context.Context, c client.Client, namespace string) error {
	_, err := c.WorkflowService().DescribeNamespace(ctx,
		&workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	if _, absent := errors.AsType[*serviceerror.NamespaceNotFound](err); !absent {
		return err
	}
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(historyRetention)})
	if _, exists := errors.AsType[*serviceerror.NamespaceAlreadyExists](err); exists {
		return nil
	}
	return err
}

// ensureSearchAttributes adds the attributes that are absent, and fails until all
// can be used in queries. Where they can be already, it asks for nothing more:
// hosted servers let only administrators list and add attributes.
func ensureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	if checkQueryable(ctx, c, namespace) == nil {
		return nil
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx,
		&operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	absent := slices.DeleteFunc(slices.Clone(SearchAttributes), func(name string) bool {
		_, ok := have.CustomAttributes[name]
		return ok
	})
	if len(absent) > 0 {
		add := &operatorservice.AddSearchAttributesRequest{Namespace: namespace,
			SearchAttributes: map[string]enums.IndexedValueType{}}
		for _, name := range absent {
			add.SearchAttributes[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
		}
		if _, err := c.OperatorService().AddSearchAttributes(ctx, add); err != nil {
			return err
		}
	}
	return checkQueryable(ctx, c, namespace)
}

// checkQueryable fails unless every attribute can be used in a query. The server
// learns of new attributes only after its cache is refreshed.
func checkQueryable(ctx context.Context, c client.Client, namespace string) error {
	for _, name := range SearchAttributes {
		count := &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: name + " IS NOT NULL"}
		if _, err := c.CountWorkflow(ctx, count); err != nil {
			return err
		}
	}
	return nil
}
