"""Both nodes on a robot: ``ros2 launch mm_fusion fusion.launch.py``.

Starts fusion_node and pose_node and, unless ``autostart:=false`` (a lifecycle manager such as
nav2's does it then), configures and activates them.
"""

import os
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

# The source checkout and the installed share directory have the same layout.
SHARE = Path(__file__).resolve().parent.parent

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "fusion.yaml"),
        description="parameter file of both nodes",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of both nodes"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="take the time from /clock"
    ),
    DeclareLaunchArgument(
        "autostart", default_value="true", description="configure and activate the nodes"
    ),
    DeclareLaunchArgument(
        "log_level", default_value="info", description="debug, info, warn, error or fatal"
    ),
]


def environment() -> dict[str, str]:
    """What large messages want, where the user has not chosen otherwise."""
    wanted = {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(SHARE / "config" / "fastdds.xml"),
    }
    if "FASTDDS_DEFAULT_PROFILES_FILE" in os.environ:
        del wanted["FASTRTPS_DEFAULT_PROFILES_FILE"]
    return {name: value for name, value in wanted.items() if name not in os.environ}


def managed(name: str) -> list:
    """A lifecycle node with its two transitions: configure now, activate when configured."""
    node = LifecycleNode(
        package="mm_fusion",
        executable=name,
        name=name,
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)},
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        additional_env=environment(),
        output="screen",
        emulate_tty=True,
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))

    def change(transition: int) -> EmitEvent:
        event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        return EmitEvent(event=event, condition=autostart)

    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    refused = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[LogInfo(msg=f"{name} refused to be configured; its own line says why")],
    )
    active = OnStateTransition(
        target_lifecycle_node=node,
        goal_state="active",
        entities=[LogInfo(msg=f"{name} is active")],
    )
    handlers = [RegisterEventHandler(h) for h in (configured, refused, active)]
    return [*handlers, node, change(Transition.TRANSITION_CONFIGURE)]


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` runs."""
    return LaunchDescription([*ARGUMENTS, *managed("pose_node"), *managed("fusion_node")])
