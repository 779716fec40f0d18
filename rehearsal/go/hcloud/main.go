// pulumi-resource-hcloud is the upstream Terraform provider behind Pulumi's bridge, with the tokens of pulumi-hcloud.
// Not modelled: documentation in the schema, and pulumi-hcloud's renames of data sources, which this project does not use.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"

	"github.com/hetznercloud/terraform-provider-hcloud/hcloud"
	pf "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	shim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/x/muxer"
	"github.com/pulumi/pulumi-terraform-bridge/v3/unstable/metadata"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
)

// The version of the Python SDK that asks for this plugin.
const version = "1.43.3"

func main() {
	ctx := context.Background()
	info := provider(ctx)
	must(precomputeDispatch(&info))
	pf.MainWithMuxer(ctx, info.Name, info, packageSchema(info))
}

func provider(ctx context.Context) tfbridge.ProviderInfo {
	info := tfbridge.ProviderInfo{
		P:            pf.MuxShimWithPF(ctx, sdkv2.NewProvider(hcloud.Provider()), hcloud.NewPluginProvider()),
		Name:         "hcloud",
		Version:      version,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
	}
	info.Resources = resourcesWithStringIDs(info.P)
	must(info.ComputeTokens(tokens.SingleModule("hcloud_", "index", tokens.MakeStandard(info.Name))))
	info.SetAutonaming(255, "-")
	return info
}

// Upstream numbers some resources; an id in Pulumi is a string.
func resourcesWithStringIDs(p shim.Provider) map[string]*tfbridge.ResourceInfo {
	resources := map[string]*tfbridge.ResourceInfo{}
	p.ResourcesMap().Range(func(name string, resource shim.Resource) bool {
		if id, found := resource.Schema().GetOk("id"); found && id.Type() != shim.TypeString {
			fields := map[string]*tfbridge.SchemaInfo{"id": {Type: "string"}}
			resources[name] = &tfbridge.ResourceInfo{Fields: fields}
		}
		return true
	})
	return resources
}

// The bridge expects this table from a build step of its own; it takes milliseconds, so it is made at every start.
func precomputeDispatch(info *tfbridge.ProviderInfo) error {
	muxed := info.P.(interface {
		ResolveDispatch(*tfbridge.ProviderInfo) (muxer.DispatchTable, error)
	})
	table, err := muxed.ResolveDispatch(info)
	if err != nil {
		return err
	}
	return metadata.Set(info.GetMetadata(), "mux", table)
}

func packageSchema(info tfbridge.ProviderInfo) []byte {
	sink := diag.DefaultSink(io.Discard, log.Writer(), diag.FormatOptions{Color: colors.Never})
	generated, err := tfgen.GenerateSchemaWithOptions(tfgen.GenerateSchemaOptions{
		ProviderInfo: info, DiagnosticsSink: sink, XInMemoryDocs: true,
	})
	must(err)
	schema, err := json.Marshal(generated.PackageSpec)
	must(err)
	return schema
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
