// The view library: preact with htm, so that pages are written without a build step.
import { h, render } from "./vendor/preact.module.js";
import { useEffect, useRef, useState } from "./vendor/hooks.module.js";
import htm from "./vendor/htm.module.js";

export const html = htm.bind(h);
export { render, useEffect, useRef, useState };
