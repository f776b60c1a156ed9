import json
import time

import pytest

from asynccam.errors import RemoteProtocolError, UsageError
from asynccam.systems.multicam import (
    CommandMessage,
    CommandType,
    DeviceStatus,
    DeviceType,
    ErrorResponse,
    FileResponse,
    ListFilesResponse,
    StatusResponse,
    StopRecordingResponse,
    UploadStatus,
)

SECRETS = ("SIGNATURE", "AKIA", "very-secret", "session-token")


# -- commands -----------------------------------------------------------------------------------


def test_command_json() -> None:
    command = CommandMessage.start_recording(timestamp=1729000000.123)
    text = '{"command": "START_RECORDING", "timestamp": 1729000000.123, '
    text += '"deviceId": "controller", "fileId": null}'
    assert command.to_json() == text
    assert command.to_bytes() == text.encode()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (CommandMessage.start_recording(), "START_RECORDING"),
        (CommandMessage.stop_recording(), "STOP_RECORDING"),
        (CommandMessage.device_status(), "DEVICE_STATUS"),
        (CommandMessage.heartbeat(), "HEARTBEAT"),
        (CommandMessage.list_files(), "LIST_FILES"),
        (CommandMessage.get_video("a"), "GET_VIDEO"),
        (CommandMessage.upload_to_cloud("a", upload_url="https://x"), "UPLOAD_TO_CLOUD"),
    ],
)
def test_command_names(command: CommandMessage, word: str) -> None:
    fields = json.loads(command.to_json())
    assert fields["command"] == word
    assert fields["deviceId"] == "controller"
    assert fields["timestamp"] == command.timestamp
    assert CommandMessage.from_json(command.to_bytes()) == command


def test_command_default_time() -> None:
    before = time.time()
    assert before <= CommandMessage.heartbeat().timestamp <= time.time()


def test_get_video_names() -> None:
    assert json.loads(CommandMessage.get_video("dev_1").to_json())["fileId"] == "dev_1"
    assert "fileName" not in json.loads(CommandMessage.get_video("dev_1").to_json())
    by_name = json.loads(CommandMessage.get_video(file_name="video_1.mp4").to_json())
    assert (by_name["fileId"], by_name["fileName"]) == (None, "video_1.mp4")
    both = json.loads(CommandMessage.get_video("dev_1", file_name="video_1.mp4").to_json())
    assert (both["fileId"], both["fileName"]) == ("dev_1", "video_1.mp4")


def test_upload_s3_fields() -> None:
    command = CommandMessage.upload_to_cloud(
        "video_1.mp4",
        s3_bucket="takes",
        s3_key="1/video.mp4",
        aws_access_key_id="AKIA",
        aws_secret_access_key="very-secret",
        aws_session_token="session-token",
        aws_region="eu-north-1",
        device_id="studio",
    )
    fields = json.loads(command.to_json())
    del fields["timestamp"]
    assert fields == {
        "command": "UPLOAD_TO_CLOUD",
        "deviceId": "studio",
        "fileId": None,
        "fileName": "video_1.mp4",
        "s3Bucket": "takes",
        "s3Key": "1/video.mp4",
        "awsAccessKeyId": "AKIA",
        "awsSecretAccessKey": "very-secret",
        "awsSessionToken": "session-token",
        "awsRegion": "eu-north-1",
    }
    for shown in (repr(command), str(command), f"{command}"):
        assert "takes" in shown
        assert not any(secret in shown for secret in SECRETS)


def test_invalid_commands_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="which file"):
        CommandMessage.get_video()
    with pytest.raises(UsageError, match="which file"):
        CommandMessage.upload_to_cloud(upload_url="https://x")
    with pytest.raises(UsageError, match="either a presigned URL or all six"):
        CommandMessage.upload_to_cloud("a")
    with pytest.raises(UsageError, match="awsSecretAccessKey"):
        CommandMessage.upload_to_cloud("a", s3_bucket="b", s3_key="k", aws_access_key_id="i")
    with pytest.raises(UsageError, match="not both"):
        CommandMessage.upload_to_cloud("a", upload_url="https://x", s3_bucket="b")
    with pytest.raises(UsageError, match="timestamp"):
        CommandMessage.start_recording(timestamp=float("nan"))
    with pytest.raises(UsageError, match="status"):
        StatusResponse(deviceId="d", timestamp=1.0, status=None)


def test_errors_do_not_contain_values() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        CommandMessage.from_json('{"command": "X", "awsSecretAccessKey": ["very-secret"]}', peer="10.0.0.9")
    assert "10.0.0.9" in str(caught.value)
    assert "awsSecretAccessKey" in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_unknown_command_is_kept() -> None:
    command = CommandMessage.from_json('{"command": "ZOOM", "timestamp": 1, "factor": 2.5}')
    assert command.command == "ZOOM"
    assert json.loads(command.to_json()) == {
        "command": "ZOOM",
        "timestamp": 1.0,
        "deviceId": "controller",
        "fileId": None,
        "factor": 2.5,
    }


def test_command_defaults() -> None:
    command = CommandMessage.from_json('{"command": "START_RECORDING", "timestamp": null, "deviceId": null}')
    assert command.command is CommandType.START_RECORDING
    assert command.deviceId == "controller"
    assert 0 <= time.time() - command.timestamp < 60


# -- answers ------------------------------------------------------------------------------------


def test_status_of_dialect_1() -> None:
    status = StatusResponse.from_json(
        b'{"deviceId":"Mountain-A1B2C3D4","status":"recording","timestamp":1729000000,"isRecording":true,'
        b'"message":null,"fileId":"Mountain-A1B2C3D4_1729000000123","fileSize":0}'
    )
    assert status.deviceId == "Mountain-A1B2C3D4"
    assert status.timestamp == 1729000000.0
    assert status.isRecording
    assert status.message is None
    assert status.fileId == "Mountain-A1B2C3D4_1729000000123"
    assert status.fileSize == 0


def test_status_of_dialect_2() -> None:
    status = StatusResponse.from_json(
        '{"deviceId":"oak-1","status":"ready","timestamp":1729000000.5,"batteryLevel":87,"deviceType":"Oak",'
        '"uploadQueue":[{"fileName":"a.mp4","fileSize":1000,"bytesUploaded":250,"uploadProgress":25,'
        '"uploadSpeed":125.5,"status":"uploading","uploadUrl":"https://bucket/a.mp4?X-Amz-SIGNATURE=1"}],'
        '"failedUploadQueue":[{"fileName":"b.mp4","fileSize":1,"bytesUploaded":0,"uploadProgress":0,'
        '"uploadSpeed":0,"status":"failed","error":"PUT https://bucket/b.mp4?X-Amz-SIGNATURE=1: 403"}]}'
    )
    assert status.batteryLevel == 87
    assert status.deviceType is DeviceType.OAK
    assert not status.isRecording
    (upload,) = status.uploadQueue
    assert (upload.fileName, upload.bytesUploaded, upload.uploadProgress) == ("a.mp4", 250, 25.0)
    assert upload.status is UploadStatus.UPLOADING
    assert upload.uploadUrl == "https://bucket/a.mp4?X-Amz-SIGNATURE=1"
    (failed,) = status.failedUploadQueue
    assert failed.status is UploadStatus.FAILED
    assert "SIGNATURE" not in repr(status)
    assert "https://bucket/b.mp4?***" in repr(status)


@pytest.mark.parametrize(
    ("fields", "recording"),
    [
        ('"status":"recording"', True),
        ('"status":"recording","isRecording":null', True),
        ('"status":"Recording"', True),
        ('"status":"ready"', False),
        ('"status":"scheduled_recording_accepted"', False),
        ('"status":"recording","isRecording":false', False),
        ('"status":"stopping","isRecording":true', True),
    ],
)
def test_is_recording_falls_back_to_status(fields: str, recording: bool) -> None:
    status = StatusResponse.from_json(f'{{"deviceId":"d","timestamp":1,{fields}}}')
    assert status.isRecording is recording


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Command received", "command_received"),
        ("Scheduled recording accepted", "scheduled_recording_accepted"),
        ("  READY ", "ready"),
        ("Time Not\tSynchronized", "time_not_synchronized"),
    ],
)
def test_status_sentences_of_early_builds(text: str, known: str) -> None:
    document = json.dumps({"deviceId": "d", "status": text, "timestamp": 1.0})
    status = StatusResponse.from_json(document)
    assert status.status == known
    assert status.raw_status == text
    assert json.loads(status.to_json()) == json.loads(document)
    assert StatusResponse.from_json(status.to_json()) == status


def test_changed_status_is_serialized() -> None:
    status = StatusResponse(deviceId="d", status="ready", timestamp=1.0)
    changed = status.model_copy(update={"status": "recording"})
    assert json.loads(changed.to_json())["status"] == "recording"


def test_json_has_only_fields_that_were_set() -> None:
    stop = StopRecordingResponse(deviceId="d", status="error", timestamp=1.5, fileName=None, fileSize=0)
    assert stop.to_json() == (
        '{"deviceId": "d", "status": "error", "timestamp": 1.5, "fileName": null, "fileSize": 0}'
    )


def test_stop_failed_or_packed_later() -> None:
    failed = StopRecordingResponse.from_json(
        '{"deviceId":"d","status":"error","timestamp":1,"fileName":null,"fileSize":null}'
    )
    assert failed.fileName is None
    assert failed.fileSize is None
    packed_later = StopRecordingResponse.from_json(
        '{"deviceId":"d","status":"recording_stopped","timestamp":1,"fileName":"v.mp4","fileSize":0}'
    )
    assert packed_later.fileSize == 0


def test_file_header_needs_only_a_size() -> None:
    header = FileResponse.from_json('{"fileSize":7,"fileName":null,"status":null}')
    assert (header.fileSize, header.fileName, header.status) == (7, "", "ready")


def test_lists_of_both_dialects() -> None:
    listing = ListFilesResponse.from_json(
        '{"deviceId":"d","status":"ready","timestamp":1,"files":['
        '{"fileId":"d_1","fileName":"d_1.mov","fileSize":10,"creationDate":1.5,"modificationDate":2},'
        '{"fileName":"video_2.mp4","fileSize":0,"creationDate":3,"modificationDate":null}]}'
    )
    assert [(file.fileId, file.fileName, file.fileSize) for file in listing.files] == [
        ("d_1", "d_1.mov", 10),
        ("", "video_2.mp4", 0),
    ]


def test_unknown_values_round_trip() -> None:
    document = {
        "deviceId": "d",
        "status": "Überhitzt",
        "timestamp": 1.5,
        "deviceType": "Toaster:Big",
        "uploadQueue": [{"fileName": "a", "status": "pondering", "retries": 3}],
        "temperature": {"cpu": [61.5, None, True], "größe": 12345678901234567890123},
    }
    status = StatusResponse.from_json(json.dumps(document))
    assert json.loads(status.to_json()) == document
    assert StatusResponse.from_json(status.to_bytes()) == status
    assert not DeviceStatus.is_success(status.status)
    assert not DeviceStatus.is_error(status.status)


def test_repr_hides_secrets_in_unknown_fields() -> None:
    error = ErrorResponse.from_json(
        '{"status":"error","presignedUrl":"SIGNATURE","awsThing":"AKIA","detail":{"x":"very-secret"},'
        '"note":"see https://x/y?t=session-token","code":7}'
    )
    assert not any(secret in repr(error) for secret in SECRETS)
    assert "code=7" in repr(error)


def test_messages_are_frozen() -> None:
    status = StatusResponse(deviceId="d", status="ready", timestamp=1.0)
    with pytest.raises(ValueError, match="frozen"):
        status.status = "recording"  # type: ignore[misc]


# -- the words ----------------------------------------------------------------------------------


def test_status_is_success_or_error() -> None:
    good = (
        "ready recording scheduled_recording_accepted command_received recording_stopped stopping uploading"
    )
    good += " upload_queued upload_completed"
    bad = "error time_not_synchronized file_not_found upload_failed camera_disconnected"
    assert {word for word in DeviceStatus if DeviceStatus.is_success(word)} == set(good.split())
    assert {word for word in DeviceStatus if DeviceStatus.is_error(word)} == set(bad.split())
    assert set(DeviceStatus) == {*good.split(), *bad.split()}
