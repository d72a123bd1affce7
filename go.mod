module github.com/gatehouse-k8s/gatehouse

go 1.26
