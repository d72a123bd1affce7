package arm

import (
	"strings"

	"github.com/gatehouse-k8s/gatehouse/fault"
)

type location struct{ name, display, geography string }

// locations are the regions of the public cloud. Here they are labels only: everything runs on this server.
var locations = []location{
	{"australiacentral", "Australia Central", "Asia Pacific"},
	{"australiaeast", "Australia East", "Asia Pacific"},
	{"australiasoutheast", "Australia Southeast", "Asia Pacific"},
	{"brazilsouth", "Brazil South", "South America"},
	{"canadacentral", "Canada Central", "Canada"},
	{"canadaeast", "Canada East", "Canada"},
	{"centralindia", "Central India", "Asia Pacific"},
	{"centralus", "Central US", "US"},
	{"eastasia", "East Asia", "Asia Pacific"},
	{"eastus", "East US", "US"},
	{"eastus2", "East US 2", "US"},
	{"francecentral", "France Central", "Europe"},
	{"germanywestcentral", "Germany West Central", "Europe"},
	{"israelcentral", "Israel Central", "Middle East"},
	{"italynorth", "Italy North", "Europe"},
	{"japaneast", "Japan East", "Asia Pacific"},
	{"japanwest", "Japan West", "Asia Pacific"},
	{"koreacentral", "Korea Central", "Asia Pacific"},
	{"koreasouth", "Korea South", "Asia Pacific"},
	{"mexicocentral", "Mexico Central", "Mexico"},
	{"newzealandnorth", "New Zealand North", "Asia Pacific"},
	{"northcentralus", "North Central US", "US"},
	{"northeurope", "North Europe", "Europe"},
	{"norwayeast", "Norway East", "Europe"},
	{"polandcentral", "Poland Central", "Europe"},
	{"qatarcentral", "Qatar Central", "Middle East"},
	{"southafricanorth", "South Africa North", "Africa"},
	{"southcentralus", "South Central US", "US"},
	{"southeastasia", "Southeast Asia", "Asia Pacific"},
	{"southindia", "South India", "Asia Pacific"},
	{"spaincentral", "Spain Central", "Europe"},
	{"swedencentral", "Sweden Central", "Europe"},
	{"switzerlandnorth", "Switzerland North", "Europe"},
	{"uaenorth", "UAE North", "Middle East"},
	{"uksouth", "UK South", "UK"},
	{"ukwest", "UK West", "UK"},
	{"westcentralus", "West Central US", "US"},
	{"westeurope", "West Europe", "Europe"},
	{"westus", "West US", "US"},
	{"westus2", "West US 2", "US"},
	{"westus3", "West US 3", "US"},
}

// ParseLocation brings a location to the form that ARM answers with: "Central US" is "centralus". It is only for
// names that are among the locations.
func ParseLocation(s, code string) (string, error) {
	name := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	if name == "" {
		return "", fault.New(fault.Invalid, "The required property 'location' is missing; give one, such as centralus.").At("location").WithCode("LocationRequired")
	}
	for _, l := range locations {
		if l.name == name {
			return name, nil
		}
	}
	return "", fault.New(fault.Invalid, "The provided location '%.100s' is not available; az account list-locations shows those that are.", s).At("location").WithCode(code)
}

// LocationNames lists the locations as providers show them.
func LocationNames() []string {
	out := make([]string, len(locations))
	for i, l := range locations {
		out[i] = l.display
	}
	return out
}
