// SPDX-License-Identifier: Apache-2.0
// The parts of Apache ECharts that the page of `bittern bench report` draws with, as one global name.
import { init, use } from "echarts/core";
import { BarChart, CustomChart, LineChart, RadarChart, ScatterChart } from "echarts/charts";
import { AxisPointerComponent, GridComponent, RadarComponent, TooltipComponent } from "echarts/components";
import { LabelLayout } from "echarts/features";
import { SVGRenderer } from "echarts/renderers";

use([BarChart, CustomChart, LineChart, RadarChart, ScatterChart]);
use([AxisPointerComponent, GridComponent, RadarComponent, TooltipComponent, LabelLayout, SVGRenderer]);
globalThis.echarts = { init };
