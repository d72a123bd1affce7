package main

import (
	"context"
	"fmt"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/cli"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/component-base/featuregate"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/component-base/term"
	"k8s.io/component-base/version/verflag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

func runAPIServer() int {
	return cli.Run(newAPIServerCommand(genericapiserver.SetupSignalContext()))
}

// newAPIServerOptions are the stock options without the cache above all token
// authenticators. That cache keeps every good token for 10 s and no flag
// reaches it, so a stock API server lets a disabled user in for 10 s whatever
// --authentication-token-webhook-cache-ttl says. Without it that flag alone
// is the bound.
func newAPIServerOptions() *options.ServerRunOptions {
	s := options.NewServerRunOptions()
	s.Authentication.TokenSuccessCacheTTL = 0
	s.Authentication.TokenFailureCacheTTL = 0
	return s
}

// newAPIServerCommand is app.NewAPIServerCommand over our options. The stock
// one makes its options where nobody can reach them, so its body is repeated
// here: compare the two at every upgrade.
func newAPIServerCommand(ctx context.Context) *cobra.Command {
	s := newAPIServerOptions()
	registry := s.GenericServerRunOptions.ComponentGlobalsRegistry
	featureGate := registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)

	cmd := &cobra.Command{
		Use: "kube-apiserver",
		Long: `The Kubernetes API server of Gatehouse. It is the stock one with all of its
flags, but it does not keep good tokens for 10 seconds: what the token webhook
says counts after --authentication-token-webhook-cache-ttl, and at once if that
is 0.`,
		SilenceUsage: true, // an error is one line
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("kube-apiserver takes flags only, not %q", args)
			}
			return nil
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := registry.Set(); err != nil {
				return err
			}
			// The server's own loopback clients should not log its warnings.
			rest.SetDefaultWarningHandler(rest.NoWarnings{})
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			verflag.PrintAndExitIfRequested()
			if err := logsapi.ValidateAndApply(s.Logs, featureGate); err != nil {
				return err
			}
			cliflag.PrintFlags(cmd.Flags())

			completed, err := s.Complete(ctx)
			if err != nil {
				return err
			}
			if errs := completed.Validate(); len(errs) != 0 {
				return utilerrors.NewAggregate(errs)
			}
			featureGate.(featuregate.MutableFeatureGate).AddMetrics()
			registry.AddMetrics()
			return app.Run(ctx, completed)
		},
	}
	cmd.SetContext(ctx)

	sets := s.Flags()
	s.Flagz = flagz.NamedFlagSetsReader{FlagSets: sets}
	verflag.AddFlags(sets.FlagSet("global"))
	globalflag.AddGlobalFlags(sets.FlagSet("global"), cmd.Name(), logs.SkipLoggingConfigurationFlags())
	for _, set := range sets.FlagSets {
		cmd.Flags().AddFlagSet(set)
	}
	columns, _, _ := term.TerminalSize(cmd.OutOrStdout())
	cliflag.SetUsageAndHelpFunc(cmd, sets, columns)
	return cmd
}
