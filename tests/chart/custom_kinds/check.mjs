// What operators' own schemas say against manifests: a JSON list of objects on standard input, a JSON
// list of messages for each on standard output.
import { readFileSync } from "node:fs";

import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1";
import {
  PodMonitor,
  PrometheusRule,
  ServiceMonitor,
} from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const KINDS = new Map(
  [HTTPRoute, ScaledObject, PodMonitor, PrometheusRule, ServiceMonitor].map((model) => [
    `${model.apiVersion} ${model.kind}`,
    model,
  ]),
);

// A value that remembers which of its fields were read. The validators let unknown fields pass, as the
// API server drops them in silence; but they read every field that their schema has, and no other.
function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  const children = new Map();
  for (const key of Object.keys(value)) {
    const at = `${path}/${key}`;
    children.set(key, watched(value[key], at, unread));
    if (!Array.isArray(value)) unread.add(at);
  }
  return new Proxy(value, {
    get(target, key) {
      unread.delete(`${path}/${String(key)}`);
      return children.has(key) ? children.get(key) : Reflect.get(target, key);
    },
  });
}

function complaints(object) {
  const model = KINDS.get(`${object.apiVersion} ${object.kind}`);
  if (!model) return [`no schema for ${object.apiVersion} ${object.kind}`];
  const unread = new Set();
  try {
    model.prototype.validate.call(watched(object, "", unread));
  } catch (error) {
    if (!error.errors) throw error;
    return error.errors.map((one) => `${one.instancePath}: ${one.message}`);
  }
  return [...unread].map((path) => `${path}: unknown field`);
}

const objects = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(objects.map(complaints)));
